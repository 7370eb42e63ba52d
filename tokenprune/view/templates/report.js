// Filters and orders the list of samples, sorts tables by their headings; all is readable without.
const form = document.querySelector("#filter");
const list = document.querySelector("#samples");
const samples = [...list.querySelectorAll(".sample")];
const compare = {
  place: (one, other) => one.dataset.place - other.dataset.place,
  category: (one, other) =>
    one.dataset.category.localeCompare(other.dataset.category) || compare.place(one, other),
};
const words = new Map();
for (const one of samples) words.set(one, one.querySelector("summary").textContent.toLowerCase());

function choose() {
  const asked = Object.fromEntries(new FormData(form));
  const sought = asked.words.trim().toLowerCase();
  let seen = 0;
  for (const one of samples) {
    one.hidden =
      (asked.category && one.dataset.category !== asked.category) ||
      (asked.state && one.dataset.state !== asked.state) ||
      !words.get(one).includes(sought);
    seen += one.hidden ? 0 : 1;
  }
  form.querySelector("output").textContent = `${seen} of ${samples.length}`;
  document.querySelector("#none").hidden = seen > 0;
}

if (form) {
  form.hidden = false;
  form.addEventListener("input", choose);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.elements.order.addEventListener("change", () => {
    const order = compare[form.elements.order.value];
    list.append(...(order ? [...samples].sort(order) : samples));
  });
  choose();
}

for (const table of document.querySelectorAll("table.sorts")) {
  const body = table.tBodies[0];
  const first = [...body.rows];
  const heads = [...table.querySelectorAll("thead th")];
  const value = (row, place) =>
    row.cells[place].dataset.value ?? row.cells[place].textContent.trim();
  heads.forEach((head, place) => {
    head.querySelector("button")?.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (before === "ascending") {
        body.append(...first);
        return;
      }
      head.setAttribute("aria-sort", before ? "ascending" : "descending");
      const sign = before ? 1 : -1;
      const sorted = [...first].sort((one, other) => {
        const [a, b] = [value(one, place), value(other, place)];
        const numbers = a !== "" && b !== "" && !Number.isNaN(+a) && !Number.isNaN(+b);
        return sign * (numbers ? a - b : a.localeCompare(b));
      });
      body.append(...sorted);
    });
  });
}

let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((one) => (one.open = true));
});
addEventListener("afterprint", () => folded.forEach((one) => (one.open = false)));
