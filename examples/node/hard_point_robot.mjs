// The family hard-point-robot-aligned: touch a first goal at 0.5 m, then stay at a second one at 1 m, both in one
// direction on the half circle. Which of the two is due is not observed. Lengths are in m.
const STRIDE = 0.1; // most that a step moves along each axis
const RADIUS = 0.3; // a goal pays within it
const HORIZON = 32; // steps of an episode

export class HardPointRobotAligned {
  // angle: direction of both goals in radians, 0 to pi. The agent never sees it.
  constructor(angle) {
    this.first = [0.5 * Math.cos(angle), 0.5 * Math.sin(angle)];
    this.second = [Math.cos(angle), Math.sin(angle)];
    this.reset();
  }

  reset() {
    this.position = [0, 0];
    this.touched = false;
    this.steps = 0;
    return this.position;
  }

  step(action) {
    this.position = this.position.map((x, axis) => x + Math.min(Math.max(action[axis], -STRIDE), STRIDE));
    const toFirst = distance(this.position, this.first);
    const toSecond = distance(this.position, this.second);
    const searching = toFirst <= RADIUS ? 1 - toFirst : 0;
    const staying = toSecond <= RADIUS ? 6 - toSecond : 1;
    const reward = this.touched ? staying : searching;
    this.touched ||= toFirst <= RADIUS / 2;
    this.steps += 1;
    return { observation: this.position, reward, terminated: false, truncated: this.steps >= HORIZON };
  }
}

function distance(a, b) {
  return Math.hypot(a[0] - b[0], a[1] - b[1]);
}
