// The phone's two directions, in the audio thread: the device's rate here, 8 kHz there.

const RATE = 8000;
const PIECE = 80; // samples of the microphone in a message: 10 ms
const KEPT = 8000; // samples that can wait for the earpiece: a second
const TOO_MUCH = 640; // 80 ms: so much late, some is left out
const MARGIN = 40; // 5 ms: what the first sound waits, and how much more after each gap
const MOST_MARGIN = 480;

class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.at = 0; // where the next sample is, in the block that comes; -1 is the last one's end
    this.last = 0;
    this.piece = new Int16Array(PIECE);
    this.filled = 0;
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
    this.port.postMessage(this.piece.slice());
    this.filled = 0;
  }
}

class Earpiece extends AudioWorkletProcessor {
  constructor() {
    super();
    this.waiting = new Float32Array(KEPT);
    this.first = this.end = 0; // counted from the beginning
    this.at = 0; // between the sample that plays and the next one
    this.margin = MARGIN;
    this.pause = MARGIN; // until sound that has come is played
    this.port.onmessage = ({ data }) => this.take(data);
  }

  take(pcm16) {
    for (const sample of pcm16) this.waiting[this.end++ % KEPT] = sample / 32768;
    if (this.end - this.first > TOO_MUCH) this.first = this.end - TOO_MUCH / 2;
  }

  process(_, [[output]]) {
    for (let n = 0; n < output.length; n++) output[n] = this.next();
    return true;
  }

  next() {
    if (this.end - this.first < 2) {
      if (!this.pause) this.margin = Math.min(MOST_MARGIN, this.margin + MARGIN);
      this.pause = this.margin;
      return 0;
    }
    if (this.pause > 0) {
      this.pause = Math.max(0, this.pause - RATE / sampleRate);
      return 0;
    }
    const a = this.waiting[this.first % KEPT];
    const b = this.waiting[(this.first + 1) % KEPT];
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
