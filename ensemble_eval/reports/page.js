"use strict";
// A click on a heading of a table sorts its rows, by number where the column has numbers; unknown values are last.
for (const heading of document.querySelectorAll("thead th")) {
  const button = document.createElement("button");
  button.append(...heading.childNodes);
  heading.append(button);
  button.onclick = () => {
    const body = heading.closest("table").tBodies[0];
    const down = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down > 0 ? "ascending" : "descending");
    const text = row => row.cells[heading.cellIndex].textContent;
    const number = row => [parseFloat(text(row).replace("<", ""))].map(n => isNaN(n) ? down * Infinity : n)[0];
    const order = heading.classList.contains("number")
      ? (one, other) => number(one) - number(other) || 0
      : (one, other) => text(one).localeCompare(text(other), undefined, { numeric: true });
    body.append(...[...body.rows].sort((one, other) => down * order(one, other)));
  };
}
// The numbers of the mark of a plot that is nearest to the pointer.
for (const figure of document.querySelectorAll("figure[data-points]")) {
  const points = JSON.parse(figure.dataset.points), drawing = figure.querySelector("svg");
  const tip = figure.appendChild(document.createElement("div"));
  tip.className = "tip";
  tip.hidden = true;
  drawing.onpointerleave = () => { tip.hidden = true; };
  drawing.onpointermove = drawing.onpointerdown = ({ clientX, clientY }) => {
    const box = drawing.getBoundingClientRect();
    const away = ([x, y]) => Math.hypot(box.left + x * box.width - clientX, box.top + y * box.height - clientY);
    const nearest = points.reduce((one, other) => away(other) < away(one) ? other : one, points[0]);
    tip.hidden = !nearest || away(nearest) > 24;
    if (tip.hidden) return;
    tip.textContent = nearest[2];
    tip.style.left = `${Math.max(8, Math.min(clientX + 12, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${clientY + (clientY > innerHeight / 2 ? -12 - tip.offsetHeight : 16)}px`;
  };
}
// A print shows everything.
const folded = [...document.querySelectorAll("details")];
addEventListener("beforeprint", () => folded.forEach(each => { each.dataset.open = each.open; each.open = true; }));
addEventListener("afterprint", () => folded.forEach(each => { each.open = each.dataset.open === "true"; }));
