package handofftest_test

import (
	"testing"

	"pgregory.net/rapid"

	"latchkey/handoff/handofftest"
)

func TestMemory(t *testing.T) {
	handofftest.Conformance(t, func(*testing.T) handofftest.Store { return handofftest.NewMemory() })
}

func TestModel(t *testing.T) {
	rapid.Check(t, handofftest.Model(func() handofftest.Store { return handofftest.NewMemory() }))
}
