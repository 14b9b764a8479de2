package main

import "slices"

// latencies holds the last answers' latencies, seconds.
type latencies struct {
	values [1000]float64
	count  int
}

func (l *latencies) add(seconds float64) {
	l.values[l.count%len(l.values)] = seconds
	l.count++
}

// quantile is 0 while there is no answer.
func (l *latencies) quantile(q float64) float64 {
	sorted := slices.Clone(l.values[:min(l.count, len(l.values))])
	if len(sorted) == 0 {
		return 0
	}
	slices.Sort(sorted)
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
