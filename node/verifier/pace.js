// Long work in short steps: between them the page can be painted, scrolled and left.

const STEP_MS = 24;
const ITEMS = 128; // of a list, between two looks at the clock

export class Pace {
  // `report` is told of the work that is done, from 0 to 1, and what it is.
  constructor(report = () => {}) {
    this.report = report;
    this.begun = performance.now();
    this.channel = new MessageChannel();
    this.channel.port1.onmessage = () => this.resume();
  }

  // Let the page breathe if this step took long enough. A message comes back sooner than a timer.
  async step(what, done) {
    if (performance.now() - this.begun < STEP_MS) return;
    this.report(what, done);
    await new Promise((resume) => {
      this.resume = resume;
      this.channel.port2.postMessage(null);
    });
    this.begun = performance.now();
  }

  // What a function makes of each item, in steps.
  async map(items, what, make) {
    const made = [];
    for (const item of items) {
      made.push(make(item));
      if (made.length % ITEMS === 0) await this.step(what, made.length / items.length);
    }
    return made;
  }

  end() {
    this.channel.port1.close();
  }
}
