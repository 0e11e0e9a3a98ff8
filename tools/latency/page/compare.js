// Two sets of turns.
function showCompare() { byId("compare").hidden = true; }
