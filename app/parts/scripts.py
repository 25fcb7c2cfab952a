"""The few things that only the browser can do, as functions of the page."""

from __future__ import annotations

WHOLE_LINK = """(query, link) =>
  query ? location.origin + location.pathname + query : link"""
"""The link that the visitor's own address makes of a query."""

COPY_LINK = """async (link) => {
  const box = document.createElement("textarea");
  box.value = link;
  document.body.append(box);
  box.select();
  // The clipboard interface exists on https and localhost only; the old command works on http too.
  let done = false;
  try { await navigator.clipboard.writeText(link); done = true; } catch (absent) {
    done = document.execCommand("copy");
  }
  box.remove();
  return done ? "Link copied" : "Select the link above and copy it";
}"""
"""Puts the link on the clipboard and says on the button what came of it."""

TO_RESULT = """() => {
  const shown = document.getElementById("NAME-slider");
  const bar = document.querySelector("#NAME-run");
  if (!shown) return;
  const place = shown.getBoundingClientRect();
  const floor = innerHeight - (bar ? bar.offsetHeight : 0);
  if (place.top < 0 || place.top + Math.min(place.height, 240) > floor) {
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const block = place.height > floor - 60 ? "start" : "center";
    shown.scrollIntoView({behavior: calm ? "auto" : "smooth", block});
  }
}"""
"""Brings the result into view where it is not, when a job begins and when it ends."""

FOCUS_BACK = """() => {
  const go = document.getElementById("NAME-go");
  const lost = () => !document.activeElement || document.activeElement === document.body;
  // Asked when it is given back: somebody may have taken it since.
  if (go) setTimeout(() => lost() && go.focus({preventScroll: true}), 60);
}"""
"""A button loses the focus when it is switched off: it gets it back when the job is over."""


def of(script: str, name: str) -> str:
    """A script for the tab of that name."""
    return script.replace("NAME", name)


NAMED = """() => {
  const share = (handle) => {
    const box = handle.getBoundingClientRect(), all = handle.parentElement.getBoundingClientRect();
    return (box.left + box.width / 2 - all.left) / all.width;
  };
  const put = (handle, to) => {
    const all = handle.parentElement.getBoundingClientRect();
    const there = {bubbles: true, view: window, clientX: all.left + to * all.width,
      clientY: all.top + all.height / 2};
    // The handle knows the mouse alone: it jumps to where it is taken.
    handle.dispatchEvent(new MouseEvent("mousedown", there));
    window.dispatchEvent(new MouseEvent("mouseup", there));
  };
  const told = (handle) => handle.setAttribute("aria-valuenow", Math.round(100 * share(handle)));
  const keyed = (handle) => {
    const steps = {ArrowLeft: -0.02, ArrowRight: 0.02, ArrowDown: -0.02, ArrowUp: 0.02,
      PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1};
    handle.setAttribute("role", "slider");
    handle.setAttribute("aria-label", "How much of the picture is before, in percent");
    handle.tabIndex = 0;
    told(handle);
    handle.addEventListener("focus", () => told(handle));
    handle.addEventListener("keydown", (event) => {
      if (!(event.key in steps)) return;
      event.preventDefault();
      put(handle, Math.min(1, Math.max(0, share(handle) + steps[event.key])));
      requestAnimationFrame(() => told(handle));
    });
  };
  const mend = () => {
    document.querySelectorAll("[data-testid=slider]:not([role=slider])").forEach(keyed);
    for (const one of document.querySelectorAll(".words .token[role=button]"))
      if (!one.textContent.trim()) { one.removeAttribute("role"); one.removeAttribute("tabindex"); }
    for (const one of document.querySelectorAll("div.empty[aria-label]:not([role])"))
      one.setAttribute("role", "img");
    for (const one of document.querySelectorAll("footer button img[alt]:not([alt=''])"))
      one.setAttribute("alt", "");
    for (const one of document.querySelectorAll("button.thumbnail-item img[alt]:not([alt=''])")) {
      one.closest("button").setAttribute("aria-label", one.alt);
      one.setAttribute("alt", "");
    }
  };
  mend();
  let waiting = false;
  new MutationObserver(() => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; mend(); });
  }).observe(document.body, {childList: true, subtree: true});
}"""
"""What a screen reader and a keyboard need and Gradio leaves out: names, roles that fit, keys."""
