//go:build tools

// Package tools pins the programs that the tests and the benchmark drive: go.mod and go.sum beside this file fix their versions and everything they are
// built from, and ../peers.py builds them.
package tools

import (
	_ "github.com/nats-io/nats-server/v2"
	_ "github.com/nats-io/natscli/nats"
)
