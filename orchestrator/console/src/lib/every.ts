// Asking again and again, but only while somebody looks and the page is not frozen.
import { live } from "./live.svelte";

/** Calls `act` every `ms`; what it returns stops it. */
export function every(ms: number, act: () => void): () => void {
  const timer = setInterval(() => !document.hidden && !live.frozen && act(), ms);
  return () => clearInterval(timer);
}
