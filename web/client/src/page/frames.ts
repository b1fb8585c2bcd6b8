/** Runs something soon: with the next frame where frames are drawn, otherwise by a timer. Returns how to cancel it. */
export type Schedule = (run: () => void) => () => void;

/** Browsers draw no frames in covered windows, although these count as visible. */
const UNSEEN_MS = 200;

/** Runs with the next frame of the page. */
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
