// The whole page, from top to bottom.

function showTheme() {
  const button = byId("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light");
  const show = () => button.setAttribute("aria-pressed", String(chosen() === "dark"));
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = chosen() === "dark" ? "light" : "dark";
    show();
  });
  system.addEventListener("change", show);
  show();
}

function showFooter() {
  const { files, marks } = report.sources;
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  byId("footer").textContent =
    `Made on ${day(report.made_s)}, ${clock(report.made_s)} by timmy latency report from ` +
    `${count(marks, "mark")} in ${count(files, "file")}. Times of day are those of ${zone}. ` +
    "Everything is in this file: it asks nothing of any network.";
}

showTheme();
showHeadline();
showLosses();
showTurns();
showStages();
showTrend();
showCompare();
showFooter();
