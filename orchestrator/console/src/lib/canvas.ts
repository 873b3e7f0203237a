// What every drawing on a canvas needs: as many points as the screen has, the page's own inks, and axes.
import { ticks } from "./lines";
import { significant } from "./plc";

export interface Plane {
  ctx: CanvasRenderingContext2D;
  /** Of the canvas, in CSS pixels; drawing is scaled to the screen's. */
  width: number;
  height: number;
  left: number;
  right: number;
  top: number;
  bottom: number;
  rem: number;
  ink: (name: string) => string;
}

export interface Margins {
  left?: number;
  bottom?: number;
  top?: number;
}

/** The canvas cleared, at the size it is shown in; margins in rem. null while it is not shown. */
export function plane(canvas: HTMLCanvasElement, margins: Margins = {}): Plane | null {
  const ctx = canvas.getContext("2d");
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (!ctx || !width || !height) return null;
  const scale = devicePixelRatio;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  ctx.setTransform(scale, 0, 0, scale, 0, 0);
  ctx.clearRect(0, 0, width, height);
  const style = getComputedStyle(document.documentElement);
  const rem = parseFloat(style.fontSize);
  ctx.font = `${Math.round(rem * 0.75)}px ${style.fontFamily}`;
  const { left = 3.6, bottom = 1.6, top = 0.5 } = margins;
  return { ctx, width, height, rem, left: left * rem, right: width - 0.5 * rem, top: top * rem, bottom: height - bottom * rem, ink: (name) => style.getPropertyValue(name).trim() };
}

/** However low a plot is: one number alone gives no scale. */
const LEAST_ROWS = 6;

/** Grid and numbers. `y` and `x` turn a value into a place. */
export function axes(on: Plane, xs: [number, number], ys: [number, number], x: (value: number) => number, y: (value: number) => number, say: { x?: (value: number) => string; y?: (value: number) => string } = {}): void {
  const { ctx, ink, rem } = on;
  ctx.save();
  ctx.strokeStyle = ink("--line");
  ctx.fillStyle = ink("--muted");
  ctx.lineWidth = 1;
  ctx.beginPath();
  ctx.textAlign = "right";
  ctx.textBaseline = "middle";
  for (const value of ticks(ys[0], ys[1], Math.max(LEAST_ROWS, (on.bottom - on.top) / (rem * 1.9)))) {
    const at = Math.round(y(value)) + 0.5;
    ctx.moveTo(on.left, at);
    ctx.lineTo(on.right, at);
    ctx.fillText(say.y?.(value) ?? significant(value, 6), on.left - 0.35 * rem, at);
  }
  ctx.textAlign = "center";
  ctx.textBaseline = "top";
  for (const value of ticks(xs[0], xs[1], (on.right - on.left) / (rem * 5))) {
    const at = Math.round(x(value)) + 0.5;
    ctx.moveTo(at, on.top);
    ctx.lineTo(at, on.bottom);
    const text = say.x?.(value) ?? significant(value, 6);
    const half = ctx.measureText(text).width / 2;
    ctx.fillText(text, Math.min(at, on.width - half - 1), on.bottom + 0.3 * rem);
  }
  ctx.stroke();
  ctx.restore();
}

/** Draws anew, once per frame at most, when the size of the canvas changes. Returns what ends it. */
export function resized(canvas: HTMLCanvasElement, draw: () => void): () => void {
  let frame = 0;
  const seen = new ResizeObserver(() => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(draw);
  });
  seen.observe(canvas);
  return () => {
    cancelAnimationFrame(frame);
    seen.disconnect();
  };
}
