import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// The orchestrator serves dist/ under `default-src 'self'`: nothing may be inlined, neither scripts nor data: assets.
export default defineConfig({
  plugins: [svelte()],
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    sourcemap: false,
    reportCompressedSize: true,
  },
  server: { proxy: { "/api": "http://127.0.0.1:8080" } },
});
