package message

import "testing"

func BenchmarkRender(b *testing.B) {
	v := sample(CodeIssued, Delivery, "de-AT")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Render(v); err != nil {
			b.Fatal(err)
		}
	}
}
