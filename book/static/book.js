// Small corrections to the page's structure that the theme leaves open; no request, no state.
// a page from disk may not fetch the pages that a search has found, to show a line of each
if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS === "object") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}

document.addEventListener("DOMContentLoaded", () => {
  // an accessible name must hold the words that are seen: drop labels that replace them
  document.querySelectorAll("details > summary[aria-label], button.search-button-field, button.search-button__button")
    .forEach((element) => {
      if (element.textContent.trim()) element.removeAttribute("aria-label");
    });
  document.querySelectorAll("button.theme-switch-button")
    .forEach((button) => button.setAttribute("aria-label", "Colours: Light, Dark, System Settings"));
  document.querySelectorAll(".has-children > details > summary").forEach((summary) => {
    const link = summary.closest(".has-children").querySelector("a");
    summary.setAttribute("aria-label", `Pages of ${link ? link.textContent.trim() : "this part"}`);
  });

  // a signature over several lines is no list of definitions; roles that are no longer known go
  document.querySelectorAll("dt.sig > dl > dd, dt.sig > dl").forEach((part) => {
    const plain = document.createElement("div");
    plain.className = part.tagName === "DD" ? "sig-line" : "sig-lines";
    plain.append(...part.childNodes);
    part.replaceWith(plain);
  });
  document.querySelectorAll(".citation-list, .citation-list > .citation, .citation-list [role='doc-backlink']")
    .forEach((part) => part.removeAttribute("role"));

  document.querySelectorAll("th").forEach((head) => {
    if (!head.textContent.trim()) head.replaceWith(document.createElement("td"));
  });

  // everything that is read stands in a landmark
  const sidebar = document.querySelector(".bd-sidebar-primary");
  if (sidebar && !sidebar.hasAttribute("role")) {
    sidebar.setAttribute("role", "complementary");
    sidebar.setAttribute("aria-label", "Book");
  }

  // on a phone figures keep a width at which their words can be read, and scroll
  document.querySelectorAll(".cell_output img").forEach((picture) => {
    const frame = document.createElement("div");
    frame.className = "book-scroll";
    picture.replaceWith(frame);
    frame.append(picture);
  });

  // what scrolls sideways can be reached by keyboard
  const wide = ".pst-scrollable-table-container, .cell_output .text_html, .book-scroll, div.math, pre";
  const reach = () => document.querySelectorAll(wide)
    .forEach((element) => {
      if (element.scrollWidth > element.clientWidth) element.setAttribute("tabindex", "0");
      else element.removeAttribute("tabindex");
    });
  reach();
  window.addEventListener("resize", reach);

  // who follows a link to a cell sees its code
  const unfold = () => {
    const cell = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (cell) cell.querySelectorAll("details.hide").forEach((code) => { code.open = true; });
  };
  unfold();
  window.addEventListener("hashchange", unfold);
});
