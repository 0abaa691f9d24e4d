// Long work in short steps: between them the page can be painted, scrolled and left.

const STEP_MS = 24;

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

  end() {
    this.channel.port1.close();
  }
}
