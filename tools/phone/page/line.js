// The sound of a call: the browser's microphone and loudspeaker as a telephone has them.

const BAND = 3400; // Hz; a phone passes no more
const BUSY = [480, 620]; // Hz

export class Line {
  // `carrier` is the worker that has the socket: sound goes past the page.
  constructor(carrier) {
    this.carrier = carrier;
    this.context = null;
    this.track = null;
    this.muted = false;
  }

  // Raises what getUserMedia does if there is no microphone to be had.
  async open(speaks) {
    const stream = speaks ? await this.listen() : null;
    this.context = new AudioContext({ latencyHint: 0 }); // the least that the device can do
    await this.context.audioWorklet.addModule("/page/sound.js");
    const earpiece = this.end("earpiece", { numberOfInputs: 0 });
    this.chain(earpiece, this.context.destination);
    if (!stream) return;
    const microphone = this.end("microphone", { numberOfOutputs: 0 });
    this.chain(this.context.createMediaStreamSource(stream), microphone);
  }

  async listen() {
    const wanted = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: wanted });
    this.track = stream.getAudioTracks()[0];
    this.mute(this.muted);
    return stream;
  }

  // One end of the call, joined with the socket.
  end(name, options) {
    const node = new AudioWorkletNode(this.context, name, options);
    const { port1, port2 } = new MessageChannel();
    node.port.postMessage(port1, [port1]);
    this.carrier.postMessage({ [name]: port2 }, [port2]);
    return node;
  }

  // Two filters in a row: what is beyond a phone's band would come back as noise.
  chain(source, sink) {
    const filter = () => new BiquadFilterNode(this.context, { type: "lowpass", frequency: BAND });
    source.connect(filter()).connect(filter()).connect(sink);
  }

  mute(on) {
    this.muted = on;
    if (this.track) this.track.enabled = !on;
  }

  async busy(seconds) {
    const end = this.context.currentTime + seconds;
    const gain = new GainNode(this.context, { gain: 0 });
    for (let at = this.context.currentTime; at < end; at += 1) {
      gain.gain.setValueAtTime(0.1, at).setValueAtTime(0, at + 0.5);
    }
    gain.connect(this.context.destination);
    const tones = BUSY.map((frequency) => new OscillatorNode(this.context, { frequency }));
    for (const tone of tones) {
      tone.connect(gain);
      tone.start();
      tone.stop(end);
    }
    await new Promise((done) => { tones[0].onended = done; });
  }

  async close() {
    this.track?.stop();
    const context = this.context;
    this.track = this.context = null;
    await context?.close();
  }
}
