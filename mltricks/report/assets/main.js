// Fills the page: the table, the brush of the parallel coordinates, the sections of recipes and ablations.
document.getElementById("steps").append(...[recipeSection, ablationSection].map(part => part()).filter(Boolean));
leaderboard();
redraws.forEach(again => again(false));
whenDrawn(() => {
  brushing();
  document.documentElement.dataset.ready = "true";
});
