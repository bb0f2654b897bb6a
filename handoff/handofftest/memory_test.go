package handofftest_test

import (
	"testing"

	"pgregory.net/rapid"

	"latchkey/handoff/handofftest"
)

func TestMemory(t *testing.T) {
	handofftest.CoreConformance(t, func(*testing.T) handofftest.Core { return handofftest.NewMemory() })
}

func TestModel(t *testing.T) {
	rapid.Check(t, handofftest.Model(func() handofftest.Core { return handofftest.NewMemory() }))
}
