package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// Whoever forgets to stop it finds it stopped; no pace or crowd can hurt a small cluster.
const (
	maxRate     = 1000.0 // requests/s
	maxFor      = time.Hour
	maxInFlight = 2000
)

// plan is a load: Rate requests/s that become To over Over, then To until For is over.
type plan struct {
	Rate float64       `json:"rate"`
	To   float64       `json:"to"`
	Over time.Duration `json:"-"`
	For  time.Duration `json:"-"`
}

// rateAt is the rate so long after the start, requests/s.
func (p plan) rateAt(elapsed time.Duration) float64 {
	if elapsed >= p.Over {
		return p.To
	}
	return p.Rate + (p.To-p.Rate)*elapsed.Seconds()/p.Over.Seconds()
}

// readPlan takes rate, to, over and for from a query; what is left out has a default.
func readPlan(query url.Values) (plan, error) {
	p := plan{Rate: 20, Over: 2 * time.Minute, For: 10 * time.Minute}
	number := func(name string, into *float64) error {
		text := query.Get(name)
		if text == "" {
			return nil
		}
		value, err := strconv.ParseFloat(text, 64)
		if err != nil || !(value > 0 && value <= maxRate) {
			return fmt.Errorf("%s=%s: want requests/s above 0 and up to %g", name, text, maxRate)
		}
		*into = value
		return nil
	}
	duration := func(name string, into *time.Duration) error {
		text := query.Get(name)
		if text == "" {
			return nil
		}
		value, err := time.ParseDuration(text)
		if err != nil || value < 0 || value > maxFor {
			return fmt.Errorf("%s=%s: want a time such as 90s, up to %s", name, text, maxFor)
		}
		*into = value
		return nil
	}
	if err := number("rate", &p.Rate); err != nil {
		return p, err
	}
	p.To = p.Rate
	for _, err := range []error{number("to", &p.To), duration("over", &p.Over), duration("for", &p.For)} {
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

// status is what GET /status says. Latencies are in seconds, over the last answers.
type status struct {
	Running    bool    `json:"running"`
	Plan       plan    `json:"plan"`
	Rate       float64 `json:"requests_per_second_now"`
	Sent       int     `json:"sent"`
	Answered   int     `json:"answered"`
	Failed     int     `json:"failed"`
	Left       int     `json:"not_sent_too_many_in_flight"`
	InFlight   int     `json:"in_flight"`
	P50Seconds float64 `json:"p50_seconds"`
	P99Seconds float64 `json:"p99_seconds"`
}

// generator sends requests at a rate, whether they are answered or not: users don't wait for each other.
type generator struct {
	target string
	client *http.Client

	mutex  sync.Mutex
	status status
	begin  time.Time
	stop   context.CancelFunc
	recent latencies
}

func newGenerator(target string) *generator {
	return &generator{target: target, client: client(), stop: func() {}}
}

// control is the API: POST /start, POST /stop, GET /status.
func (g *generator) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /start", func(response http.ResponseWriter, request *http.Request) {
		plan, err := readPlan(request.URL.Query())
		if err != nil {
			http.Error(response, err.Error(), http.StatusBadRequest)
			return
		}
		g.start(plan)
		g.write(response)
	})
	mux.HandleFunc("POST /stop", func(response http.ResponseWriter, _ *http.Request) {
		g.mutex.Lock()
		g.stop()
		g.status.Running = false
		g.mutex.Unlock()
		g.write(response)
	})
	mux.HandleFunc("GET /status", func(response http.ResponseWriter, _ *http.Request) { g.write(response) })
	mux.HandleFunc("GET /healthz", healthy)
	return mux
}

func (g *generator) write(response http.ResponseWriter) {
	g.mutex.Lock()
	now := g.status
	if now.Running {
		now.Rate = now.Plan.rateAt(time.Since(g.begin))
	}
	now.P50Seconds, now.P99Seconds = g.recent.quantile(0.5), g.recent.quantile(0.99)
	g.mutex.Unlock()
	response.Header().Set("content-type", "application/json")
	_ = json.NewEncoder(response).Encode(now)
}

// start ends the load that runs and begins another.
func (g *generator) start(plan plan) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.stop()
	ctx, stop := context.WithTimeout(context.Background(), plan.For)
	g.stop, g.begin, g.recent = stop, time.Now(), latencies{}
	g.status = status{Running: true, Plan: plan, InFlight: g.status.InFlight}
	go g.run(ctx, plan, g.begin)
}

// run sends at the plan's rate, with the exponential gaps of independent users, until ctx ends.
func (g *generator) run(ctx context.Context, plan plan, begin time.Time) {
	next := begin
	for {
		next = next.Add(time.Duration(rand.ExpFloat64() / plan.rateAt(next.Sub(begin)) * float64(time.Second)))
		select {
		case <-ctx.Done():
			g.mutex.Lock()
			// Another load may run by now.
			if g.begin.Equal(begin) {
				g.status.Running = false
			}
			g.mutex.Unlock()
			return
		case <-time.After(time.Until(next)):
		}
		g.mutex.Lock()
		send := g.status.InFlight < maxInFlight
		if send {
			g.status.InFlight++
			g.status.Sent++
		} else {
			g.status.Left++
		}
		g.mutex.Unlock()
		if send {
			go g.ask()
		}
	}
}

func (g *generator) ask() {
	begin := time.Now()
	reply, err := g.client.Get(g.target)
	good := err == nil && reply.StatusCode < 500
	if err == nil {
		_, _ = io.Copy(io.Discard, reply.Body)
		reply.Body.Close()
	}
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.status.InFlight--
	if good {
		g.status.Answered++
		g.recent.add(time.Since(begin).Seconds())
	} else {
		g.status.Failed++
	}
}
