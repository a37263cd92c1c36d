"""Records to Plotly figures: pure functions, used by report, notebook and page alike."""
