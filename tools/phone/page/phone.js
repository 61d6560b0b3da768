// The phone's page: what is pressed goes to the tool, and what comes back is shown.

import { Line } from "/page/line.js";
import { Timeline } from "/page/timeline.js";

const KEYS = "123456789*0#";
const HEARD = 0.12; // loudness that counts as somebody's voice
const BUSY_SECONDS = 4;
const DRAW_MS = 250;
const NO_MICROPHONE = "The browser gave no microphone. Allow it for this page, then call again.";
const GONE = "The tool behind this page has ended. Start it again, and open the link it prints.";
const ELSEWHERE = "The phone is open in another window.";

const find = (id) => document.getElementById(id);
const carrier = new Worker("/page/carrier.js");
const ask = (request) => carrier.postMessage({ ask: request });
const line = new Line(carrier);
const timeline = new Timeline(find("timeline"));
const status = (text) => { if (find("status").textContent !== text) find("status").textContent = text; };
let connected = false; // with the tool
let inCall = false;
let scripted = false; // a script speaks, and nobody else

// --- the phone ---------------------------------------------------------------------------------

// How loud 20 ms of both sides were, 0 to 1
function onSound(caller, agent) {
  timeline.add(caller, agent);
  find("you").style.setProperty("--level", `${100 * caller}%`);
  find("agent").style.setProperty("--level", `${100 * agent}%`);
  find("agent").classList.toggle("speaks", agent > HEARD);
}

async function call() {
  find("trouble").textContent = "";
  find("call").disabled = true;
  try {
    await line.open(!scripted);
  } catch (error) {
    find("trouble").textContent = `${NO_MICROPHONE} (${error.message})`;
    find("call").disabled = false;
    return;
  }
  for (const id of ["entries", "log"]) find(id).replaceChildren();
  find("saved").hidden = true;
  timeline.clear();
  inCall = true;
  showButtons();
  status("Ringing …");
  ask({ do: "call" });
}

function showButtons() {
  const button = find("call");
  button.disabled = !connected;
  button.textContent = inCall ? "Hang up" : "Call";
  button.classList.toggle("ends", inCall);
  for (const each of [find("mute"), ...find("keypad").children]) each.disabled = scripted || !inCall;
}

async function onCall({ state, why }) {
  if (state === "talking") return status("You are connected");
  inCall = false;
  showButtons();
  status(`Call over: ${why}`);
  find("saved").hidden = timeline.seconds === 0;
  for (const meter of document.querySelectorAll(".meters i")) {
    meter.style.setProperty("--level", "0%");
    meter.classList.remove("speaks");
  }
  if (why.endsWith("busy")) await line.busy(BUSY_SECONDS);
  await line.close();
}

function press(keys) {
  if (inCall && !scripted) ask({ do: "press", keys });
}

// --- what is shown ------------------------------------------------------------------------------

function onEntry(entry) {
  const id = `entry-${entry.id}`;
  let item = find(id);
  const list = find("entries");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
  if (!item) {
    item = list.appendChild(document.createElement("li"));
    item.id = id;
  }
  item.dataset.who = entry.who;
  item.dataset.state = entry.state ?? "";
  item.replaceChildren(...(entry.who === "agent" ? sentence(entry) : [told(entry)]));
  if (atEnd) list.scrollTop = list.scrollHeight;
  announce(entry);
}

function told({ who, text }) {
  const names = { workflow: "workflow is told: ", twilio: "Twilio's voice says: " };
  return (names[who] ?? "") + text;
}

function sentence({ text, state, heard }) {
  const rest = document.createElement(state === "cut" ? "s" : "span");
  rest.textContent = text.slice(heard);
  if (state !== "cut") rest.className = "coming";
  return [text.slice(0, heard), rest];
}

// What a screen reader says: not the agent's words, which are heard.
function announce({ who, text, state }) {
  if (who === "agent" || who === "workflow" || (who === "caller" && state !== "said")) return;
  const said = document.createElement("span");
  said.textContent = `${who}: ${text}. `;
  find("announce").append(said);
}

function onLog({ text }) {
  const log = find("log");
  log.append(`${text}\n`);
  log.scrollTop = log.scrollHeight;
}

function onWelcome({ number, break: breaks, real, simulated, kept, ...about }) {
  connected = true;
  scripted = about.scripted;
  find("number").textContent = number;
  status(scripted ? "Press Call, and listen" : "Press Call, and speak when you are greeted");
  const facts = [...real.map((what) => `real: ${what}`), ...simulated.map((what) => `not real: ${what}`)];
  find("real").replaceChildren(...facts.map((what) => {
    const item = document.createElement("li");
    item.textContent = what;
    return item;
  }));
  find("saved").append(...kept.map(saveLink));
  find("breaks").replaceChildren(...breaks.map(breakButton));
  showButtons();
}

function saveLink(name) {
  const link = document.createElement("a");
  link.href = `/${name}`;
  link.download = name;
  link.textContent = name;
  return link;
}

function breakButton({ name, label, about, stays }) {
  const button = document.createElement("button");
  const small = document.createElement("small");
  button.id = `break-${name}`;
  small.textContent = about;
  button.append(label, small);
  if (stays) button.ariaPressed = "false";
  button.onclick = () => {
    const on = button.ariaPressed !== "true";
    if (stays) button.ariaPressed = String(on);
    ask({ do: "break", what: name, on });
  };
  return button;
}

function onTurn(turn) {
  timeline.turns.push(turn);
  const seconds = (turn.steps.at(-1)[1] - turn.last_word).toFixed(1);
  find("timeline").ariaLabel = `Both sides' sound; the last answer came after ${seconds} seconds`;
}

const SHOW = {
  welcome: onWelcome,
  call: onCall,
  entry: onEntry,
  log: onLog,
  turn: onTurn,
  "barge-in": ({ at }) => timeline.bargeIns.push(at),
  speaks: ({ on }) => find("you").classList.toggle("speaks", on),
  trouble: ({ text }) => { find("trouble").textContent = text; },
};

// --- the beginning -----------------------------------------------------------------------------

carrier.onmessage = ({ data: { entry, closed, heard, said } }) => {
  if (entry) SHOW[entry.show](entry);
  else if (closed) onGone(closed);
  else onSound(said, heard);
};

function onGone(code) {
  connected = inCall = false;
  showButtons();
  find("trouble").textContent = code === 4001 ? ELSEWHERE : GONE;
  line.close();
}

for (const key of KEYS) {
  const button = find("keypad").appendChild(document.createElement("button"));
  button.textContent = key;
  button.ariaLabel = { "*": "star", "#": "hash" }[key] ?? key;
  button.disabled = true;
  button.onclick = () => press(key);
}
find("call").onclick = () => (inCall ? ask({ do: "hang up" }) : call());
find("mute").onclick = () => {
  line.mute(!line.muted);
  find("mute").ariaPressed = String(line.muted);
};
document.addEventListener("keydown", ({ key, ctrlKey, metaKey, altKey }) => {
  if (key.length === 1 && KEYS.includes(key) && !ctrlKey && !metaKey && !altKey) press(key);
});

setInterval(() => {
  timeline.draw();
  const seconds = Math.floor(timeline.seconds);
  find("clock").textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}, DRAW_MS);
