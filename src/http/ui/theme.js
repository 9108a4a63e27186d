// Before the page is painted: the colours that were chosen here last. Not a module, for those come later.
"use strict";
try {
  const chosen = localStorage.getItem("procstar-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // A browser that keeps nothing shows the system's colours.
}
