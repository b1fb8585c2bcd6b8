/** Runs something soon: once per frame where frames are drawn, else by a timer. Returns how to call it off. */
export type Schedule = (run: () => void) => () => void;

/** Frames are not drawn in windows that nobody sees, though these count as visible. */
const UNSEEN_MS = 200;

/** With the next frame of the page. */
export const withNextFrame: Schedule = (run) => {
  if (typeof requestAnimationFrame !== 'function' || document.hidden) return after(0, run);
  const once = () => {
    cancelAnimationFrame(frame);
    stopTimer();
    run();
  };
  const frame = requestAnimationFrame(once);
  const stopTimer = after(UNSEEN_MS, once);
  return () => {
    cancelAnimationFrame(frame);
    stopTimer();
  };
};

function after(ms: number, run: () => void): () => void {
  const timer = setTimeout(run, ms);
  return () => clearTimeout(timer);
}
