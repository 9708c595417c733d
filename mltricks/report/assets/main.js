// Fills the page: the table, and the brush of the parallel coordinates.
leaderboard();
whenDrawn(() => {
  brushing();
  document.documentElement.dataset.ready = "true";
});
