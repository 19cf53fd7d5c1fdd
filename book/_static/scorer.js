/* Search finds chapters first, then reference pages, the code last; among each the weights are those of Sphinx. */
var Scorer = {
  score: ([page, , , , score]) => {
    const reference = ["changelog", "figures", "more_figures", "genindex", "glossary", "references", "unmeasured"].includes(page);
    return score + (page.startsWith("api/") ? -100 : reference ? 0 : 100);
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
