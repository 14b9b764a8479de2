package main

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"time"
)

// calibrate returns how many rounds of hash take so much time on one core now.
func calibrate(work time.Duration) int {
	// The best of a few: whatever disturbs makes a trial slower, never faster.
	const trial = 20_000
	best := time.Duration(1<<63 - 1)
	for range 5 {
		begin := time.Now()
		hash(trial)
		best = min(best, time.Since(begin))
	}
	return max(1, int(work.Seconds()/best.Seconds()*trial))
}

// hash burns CPU and nothing else: SHA-256 over its own output.
func hash(rounds int) [sha256.Size]byte {
	var sum [sha256.Size]byte
	for range rounds {
		sum = sha256.Sum256(sum[:])
	}
	return sum
}

// api answers /work with the result of its hashing; /healthz costs nothing.
func api(rounds int) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /work", func(response http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(response, "%x\n", hash(rounds))
	})
	mux.HandleFunc("GET /healthz", healthy)
	return mux
}

func healthy(response http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(response, "ok")
}
