// The phone's two directions, in the audio thread: the device's rate here, 8 kHz there.

const RATE = 8000;
const PIECE = 80; // samples of the microphone in a message: 10 ms
const KEPT = 4000; // samples that can wait for the earpiece: half a second
const CUSHION = 40; // of them may wait for nothing: 5 ms
const SECOND = 50; // pieces for the earpiece, of 20 ms each

class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.at = 0; // where the next sample is, in the block that comes; -1 is the last one's end
    this.last = 0;
    this.piece = new Int16Array(PIECE);
    this.filled = 0;
    this.way = null; // of the sound, past the page
    this.port.onmessage = ({ data }) => { this.way = data; };
  }

  process([[input]]) {
    if (!input) return true;
    for (; this.at < input.length - 1; this.at += sampleRate / RATE) {
      const before = Math.floor(this.at);
      const a = before < 0 ? this.last : input[before];
      this.put(a + (input[before + 1] - a) * (this.at - before));
    }
    this.at -= input.length;
    this.last = input[input.length - 1];
    return true;
  }

  put(sample) {
    this.piece[this.filled++] = 32767 * Math.max(-1, Math.min(1, sample));
    if (this.filled < PIECE) return;
    this.way?.postMessage(this.piece.slice());
    this.filled = 0;
  }
}

class Earpiece extends AudioWorkletProcessor {
  constructor() {
    super();
    this.sound = new Float32Array(KEPT); // a ring; places are counted from the beginning
    this.first = this.end = 0;
    this.at = 0; // between the sample that plays and the next one
    this.pause = CUSHION; // until sound that has come is played
    this.pieces = 0;
    this.least = KEPT; // that was left when any piece of this second came
    this.port.onmessage = ({ data: way }) => {
      way.onmessage = ({ data }) => this.take(data);
    };
  }

  take(pcm16) {
    this.least = Math.min(this.least, this.end - this.first);
    for (const sample of pcm16) this.sound[this.end++ % KEPT] = sample / 32768;
    this.first = Math.max(this.first, this.end - KEPT);
    if (++this.pieces === SECOND) this.catchUp();
  }

  // What has waited for nothing all through a second is left out: what is late once stays so no
  // longer.
  catchUp() {
    this.first += Math.max(0, this.least - CUSHION);
    this.least = KEPT;
    this.pieces = 0;
  }

  process(_, [[output]]) {
    for (let n = 0; n < output.length; n++) output[n] = this.next();
    return true;
  }

  next() {
    if (this.end - this.first < 2) {
      this.pause = CUSHION;
      return 0;
    }
    if (this.pause > 0) {
      this.pause -= RATE / sampleRate;
      return 0;
    }
    const a = this.sound[this.first % KEPT];
    const b = this.sound[(this.first + 1) % KEPT];
    const sample = a + (b - a) * this.at;
    this.at += RATE / sampleRate;
    if (this.at >= 1) {
      this.at -= 1;
      this.first += 1;
    }
    return sample;
  }
}

registerProcessor("microphone", Microphone);
registerProcessor("earpiece", Earpiece);
