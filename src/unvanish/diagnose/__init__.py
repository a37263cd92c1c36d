"""From traces to findings: the engine, the catalogue of rules, the thresholds."""
