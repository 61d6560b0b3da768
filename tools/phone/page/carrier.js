// The phone's socket, in a thread of its own: what the page draws must not hold up any sound.

const socket = new WebSocket(`ws://${location.host}/socket`);
let earpiece = null; // the way to it, while there is a call
let said = 0; // loudness, since sound was heard last

socket.binaryType = "arraybuffer";
socket.onmessage = ({ data }) => {
  if (data instanceof ArrayBuffer) return hear(new Int16Array(data));
  return postMessage({ entry: JSON.parse(data) });
};
socket.onclose = ({ code }) => postMessage({ closed: code });

// The page sends what to ask the tool, and the ends of the sound's two ways.
onmessage = ({ data }) => {
  if (data.ask) socket.send(JSON.stringify(data.ask));
  if (data.earpiece) earpiece = data.earpiece;
  if (data.microphone) data.microphone.onmessage = ({ data: pcm16 }) => say(pcm16);
};

function say(pcm16) {
  said = Math.max(said, loudness(pcm16));
  if (socket.readyState === WebSocket.OPEN) socket.send(pcm16);
}

function hear(pcm16) {
  earpiece?.postMessage(pcm16);
  postMessage({ heard: loudness(pcm16), said });
  said = 0;
}

// Loudness of PCM16, 0 to 1, on a scale on which speech fills most of the room.
function loudness(pcm16) {
  let sum = 0;
  for (const sample of pcm16) sum += sample * sample;
  const rms = Math.sqrt(sum / Math.max(1, pcm16.length)) / 32768;
  return Math.min(1, Math.sqrt(rms * 4));
}
