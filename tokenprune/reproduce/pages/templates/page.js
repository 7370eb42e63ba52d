// Sorts a table by the column whose heading is pressed; prints what is folded, too.
for (const table of document.querySelectorAll("table.sorts")) {
  const body = table.tBodies[0];
  const first = [...body.rows];
  const text = (row, place) => row.cells[place].dataset.value ?? row.cells[place].textContent.trim();
  table.querySelectorAll("thead th").forEach((head, place) => {
    head.querySelector("button")?.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "descending";
      const up = head.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      if (up) {
        body.append(...first);
        return;
      }
      const sign = down ? 1 : -1;
      head.setAttribute("aria-sort", down ? "ascending" : "descending");
      const rows = [...first].sort((one, other) => {
        const [a, b] = [text(one, place), text(other, place)];
        if (a === "" || b === "") return (a === "") - (b === "");
        const [x, y] = [Number.parseFloat(a), Number.parseFloat(b)];
        const numbers = !Number.isNaN(x) && !Number.isNaN(y);
        return sign * (numbers ? x - y : a.localeCompare(b));
      });
      body.append(...rows);
    });
  });
}
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((one) => (one.open = true));
});
addEventListener("afterprint", () => folded.forEach((one) => (one.open = false)));
