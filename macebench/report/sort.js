"use strict";
// Sorts tables of class "sortable" by a click or Enter on a header. A clip without a value stays last.
(function () {
  function compare(a, b) {
    return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
  }

  function sort(table, index, head) {
    const ascending = head.getAttribute("aria-sort") !== "ascending";
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, function (row, order) {
      return { row: row, order: order, key: JSON.parse(row.getAttribute("data-keys"))[index] };
    });
    rows.sort(function (a, b) {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.order - b.order;
      return (ascending ? 1 : -1) * compare(a.key, b.key) || a.order - b.order;
    });
    rows.forEach(function (item) { body.appendChild(item.row); });
    Array.from(table.tHead.rows[0].cells).forEach(function (cell) { cell.setAttribute("aria-sort", "none"); });
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  }

  document.querySelectorAll("table.sortable").forEach(function (table) {
    Array.from(table.tHead.rows[0].cells).forEach(function (head, index) {
      head.querySelector("button").addEventListener("click", function () { sort(table, index, head); });
    });
  });
})();
