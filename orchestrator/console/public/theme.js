// Before the first paint, so that nobody is dazzled at night: the remembered theme, else the system's.
(function () {
  var chosen = null;
  try {
    chosen = localStorage.getItem("sluice.theme");
  } catch (_) {
    // Storage may be forbidden; the system's theme is a good answer.
  }
  var dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
})();
