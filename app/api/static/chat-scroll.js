// Keeps the end of the talk in view, unless the reader has scrolled up to read.

const NEAR_PX = 64;

export class Scroll {
  #follows = true;
  #last = 0;  // where the log stood
  #height = 0;  // and how long it was

  constructor(log, button) {
    this.log = log;
    this.button = button;
    log.addEventListener("scroll", () => this.#look(), { passive: true });
    button.addEventListener("click", () => {
      this.toEnd();
      log.focus({ preventScroll: true });
    });
    log.addEventListener("keyup", ({ key, target }) => {
      if (key === "Tab" && target === log) log.classList.add("reached");
    });
    log.addEventListener("blur", () => log.classList.remove("reached"));
    new ResizeObserver(() => this.grew()).observe(log);
  }

  /** What is in the log became longer, or the log smaller. */
  grew() {
    if (this.#follows) this.log.scrollTop = this.log.scrollHeight;
    this.#note();
  }

  toEnd() {
    this.#follows = true;
    this.grew();
  }

  #look() {
    const { scrollTop, scrollHeight } = this.log;
    const near = this.#distance() < NEAR_PX;
    if (near) this.#follows = true;
    else if (scrollTop < this.#last - 1 && scrollHeight >= this.#height) this.#follows = false;  // the reader went up
    this.#note();
  }

  #distance() {
    return this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight;
  }

  #note() {
    this.#last = this.log.scrollTop;
    this.#height = this.log.scrollHeight;
    this.button.hidden = this.#follows || this.#distance() < NEAR_PX;
  }
}
