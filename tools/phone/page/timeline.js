// Both sides' sound on one axis, and the times of each turn.

const FRAME = 0.02; // seconds of sound in a level
const LEAST_SECONDS = 30; // the axis is never shorter

export class Timeline {
  constructor(canvas) {
    this.canvas = canvas;
    this.clear();
  }

  clear() {
    this.caller = [];
    this.agent = [];
    this.turns = [];
    this.bargeIns = [];
  }

  // The loudness of 20 ms of both sides, 0 to 1.
  add(caller, agent) {
    this.caller.push(caller);
    this.agent.push(agent);
  }

  get seconds() {
    return this.agent.length * FRAME;
  }

  draw() {
    const { canvas } = this;
    const scale = window.devicePixelRatio || 1;
    this.width = canvas.clientWidth;
    this.height = canvas.clientHeight;
    canvas.width = this.width * scale;
    canvas.height = this.height * scale;
    this.pen = canvas.getContext("2d");
    this.pen.scale(scale, scale);
    this.perSecond = this.width / Math.max(LEAST_SECONDS, this.seconds);
    this.middle = this.height / 2;
    this.drawAxis();
    for (const turn of this.turns) this.drawTurn(turn);
    this.drawSound(this.caller, -1, this.colour("caller"));
    this.drawSound(this.agent, 1, this.colour("agent"));
    for (const at of this.bargeIns) this.drawBargeIn(at);
  }

  // A colour of the page's, as the canvas knows colours: light-dark() is none.
  colour(name) {
    this.canvas.style.color = `var(--${name})`;
    return getComputedStyle(this.canvas).color;
  }

  drawAxis() {
    this.pen.font = "11px system-ui, sans-serif";
    this.pen.fillStyle = this.pen.strokeStyle = this.colour("quiet");
    this.pen.lineWidth = 0.5;
    this.stroke(0, this.middle, this.width, this.middle);
    const step = this.perSecond * 5 > 40 ? 5 : this.perSecond * 10 > 40 ? 10 : 30;
    for (let s = step; s * this.perSecond < this.width - 12; s += step) {
      this.stroke(s * this.perSecond, this.height - 14, s * this.perSecond, this.height - 10);
      this.pen.fillText(`${s} s`, s * this.perSecond - 8, this.height - 1);
    }
  }

  drawSound(levels, direction, colour) {
    this.pen.fillStyle = colour;
    const room = this.middle - 18;
    for (let x = 0; x < this.seconds * this.perSecond; x += 2) {
      const from = Math.floor(x / this.perSecond / FRAME);
      const to = Math.max(from + 1, Math.floor((x + 2) / this.perSecond / FRAME));
      const loudest = Math.max(0, ...levels.slice(from, to));
      const size = Math.max(0.5, loudest * room);
      this.pen.fillRect(x, direction < 0 ? this.middle - size : this.middle, 1.4, size);
    }
  }

  // From the caller's last word to the answer's first sound.
  drawTurn({ last_word: begin, steps }) {
    const end = steps.at(-1)[1];
    this.pen.fillStyle = this.colour("wait");
    this.pen.fillRect(begin * this.perSecond, 12, (end - begin) * this.perSecond, this.height - 28);
    this.pen.strokeStyle = this.pen.fillStyle = this.colour("text");
    this.pen.lineWidth = 0.7;
    for (const [, at] of steps) {
      this.stroke(at * this.perSecond, this.middle - 5, at * this.perSecond, this.middle + 5);
    }
    const label = `${(end - begin).toFixed(1)} s`;
    const place = ((begin + end) / 2) * this.perSecond - this.pen.measureText(label).width / 2;
    this.pen.fillText(label, Math.max(0, place), 10);
  }

  drawBargeIn(at) {
    this.pen.strokeStyle = this.colour("alarm");
    this.pen.lineWidth = 1.5;
    this.stroke(at * this.perSecond, 14, at * this.perSecond, this.height - 16);
  }

  stroke(x, y, x2, y2) {
    this.pen.beginPath();
    this.pen.moveTo(x, y);
    this.pen.lineTo(x2, y2);
    this.pen.stroke();
  }
}
