"""Fuzzing: whatever comes from outside, in any form. README.md says how, and what is fuzzed."""
