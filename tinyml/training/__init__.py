"""Mathematics that several estimators train with: arrays in, arrays out."""
