// Long lists: of rows of one height, those in view are in the document, and room for the others.

const AROUND = 15;
/** So many rows are in the document whole, where a reader's own search finds them. */
const FEW = 60;

/** Which rows of a long list are in view; asks its view for a drawing when that changes. */
export class Windowed {
  #from = 0;
  #to = FEW;
  #due = false;

  /**
   * @param {{ update(): void, left: AbortSignal }} view
   * @param {() => Element | null} body what holds the rows
   * @param {number} height of a row, before one is measured
   */
  constructor(view, body, height) {
    this.view = view;
    this.body = body;
    this.height = height;
  }

  /** Follows the reader until the view leaves. */
  watch() {
    const options = { signal: this.view.left, passive: true };
    const moved = () => {
      if (this.#due) return;
      this.#due = true;
      requestAnimationFrame(() => {
        this.#due = false;
        if (this.measure()) this.view.update();
      });
    };
    addEventListener("scroll", moved, options);
    addEventListener("resize", moved, options);
  }

  /** Finds out what is in view; whether that is other than before. Called after each drawing too. */
  measure() {
    const body = this.body();
    if (!body) return false;
    const row = body.querySelector("[data-row]");
    if (row) this.height = row.getBoundingClientRect().height || this.height;
    const top = -body.getBoundingClientRect().top;
    const first = Math.floor(top / this.height);
    const from = Math.max(0, first - AROUND);
    const to = Math.max(0, first + Math.ceil(innerHeight / this.height) + AROUND);
    // a few rows more or less are no reason to draw again
    const same = Math.abs(from - this.#from) < AROUND / 2 && Math.abs(to - this.#to) < AROUND / 2;
    if (same) return false;
    this.#from = from;
    this.#to = to;
    return true;
  }

  /** The rows to draw of so many, and the heights of the room above and below them. @param {number} count */
  slice(count) {
    const few = count <= FEW;
    const from = few ? 0 : Math.min(this.#from, count - 1);
    const to = few ? count : Math.min(this.#to, count);
    return { from, to, above: `${from * this.height}px`, below: `${Math.max(0, count - to) * this.height}px` };
  }

  /** Whether the reader is so near the end of so many rows that more should come. @param {number} count */
  nearEnd(count) {
    return this.#to >= count - AROUND;
  }

  /** Brings a row into view. @param {number} index */
  show(index) {
    const body = this.body();
    if (!body) return;
    const at = body.getBoundingClientRect().top + index * this.height;
    if (at < 60 || at > innerHeight - 80) scrollBy({ top: at - innerHeight / 2 });
    if (this.measure()) this.view.update();
  }
}
