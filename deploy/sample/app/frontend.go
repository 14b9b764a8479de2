package main

import (
	"io"
	"net/http"
	"time"
)

// A Service balances connections, not requests: who keeps one for ever never meets a new pod.
const rebalance = time.Second

// client keeps connections for at most about rebalance. Nobody waits longer for a reply than the time-out.
func client() *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	go func() {
		for range time.Tick(rebalance) {
			transport.CloseIdleConnections()
		}
	}()
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

// frontend asks the API for each request and passes its answer on.
func frontend(backend string) http.Handler {
	client := client()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(response http.ResponseWriter, request *http.Request) {
		ask, err := http.NewRequestWithContext(request.Context(), http.MethodGet, backend+"/work", nil)
		if err != nil {
			http.Error(response, err.Error(), http.StatusInternalServerError)
			return
		}
		reply, err := client.Do(ask)
		if err != nil {
			http.Error(response, err.Error(), http.StatusBadGateway)
			return
		}
		defer reply.Body.Close()
		response.WriteHeader(reply.StatusCode)
		_, _ = io.Copy(response, reply.Body)
	})
	mux.HandleFunc("GET /healthz", healthy)
	return mux
}
