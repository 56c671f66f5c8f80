// Keeps the end of the talk in view, unless the reader has scrolled up to read.

const NEAR_PX = 64;

export class Scroll {
  #follows = true;
  #last = 0;

  constructor(log, button) {
    this.log = log;
    this.button = button;
    log.addEventListener("scroll", () => this.#look(), { passive: true });
    button.addEventListener("click", () => {
      this.toEnd();
      log.focus({ preventScroll: true });
    });
    new ResizeObserver(() => this.grew()).observe(log);
  }

  /** What is in the log became longer, or the log smaller. */
  grew() {
    if (this.#follows) this.log.scrollTop = this.log.scrollHeight;
    this.#show();
  }

  toEnd() {
    this.#follows = true;
    this.grew();
  }

  #look() {
    const { scrollTop } = this.log;
    const near = this.#distance() < NEAR_PX;
    if (scrollTop < this.#last - 1) this.#follows = near;  // the reader went up
    else if (near) this.#follows = true;
    this.#last = scrollTop;
    this.#show();
  }

  #distance() {
    return this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight;
  }

  #show() {
    this.button.hidden = this.#follows || this.#distance() < NEAR_PX;
  }
}
