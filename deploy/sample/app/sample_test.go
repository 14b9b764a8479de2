package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"
)

func TestARampRisesAndStays(t *testing.T) {
	p := plan{Rate: 50, To: 400, Over: 120 * time.Second, For: time.Hour}
	for elapsed, want := range map[time.Duration]float64{0: 50, 60 * time.Second: 225, 120 * time.Second: 400, time.Hour: 400} {
		if got := p.rateAt(elapsed); got != want {
			t.Errorf("%g requests/s after %s, want %g", got, elapsed, want)
		}
	}
}

func TestAPlanIsBounded(t *testing.T) {
	for _, bad := range []string{"rate=0", "rate=-1", "rate=1001", "rate=NaN", "rate=x", "to=5000", "for=2h", "over=-1s", "for=soon"} {
		query, _ := url.ParseQuery(bad)
		if p, err := readPlan(query); err == nil {
			t.Errorf("%s was taken: %+v", bad, p)
		}
	}
	p, err := readPlan(url.Values{"rate": {"30"}})
	if err != nil || p.rateAt(time.Minute) != 30 {
		t.Errorf("a rate alone stays: %+v, %v", p, err)
	}
}

func TestQuantilesAreOfTheLastAnswers(t *testing.T) {
	var l latencies
	if l.quantile(0.5) != 0 {
		t.Error("no answer has no latency")
	}
	for range 5000 {
		l.add(9)
	}
	for i := range 1000 {
		l.add(float64(i))
	}
	if got := l.quantile(0.5); got != 500 {
		t.Errorf("median %g", got)
	}
	if got := l.quantile(0.99); got != 990 {
		t.Errorf("p99 %g", got)
	}
}

func TestTheWholeWayFromTheGeneratorThroughTheFrontendToTheAPI(t *testing.T) {
	worker := httptest.NewServer(api(10))
	defer worker.Close()
	front := httptest.NewServer(frontend(worker.URL))
	defer front.Close()
	generator := newGenerator(front.URL + "/")
	control := httptest.NewServer(generator.control())
	defer control.Close()

	call := func(method, path string) (code int, now status) {
		request, _ := http.NewRequest(method, control.URL+path, nil)
		reply, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer reply.Body.Close()
		body, _ := io.ReadAll(reply.Body)
		if reply.StatusCode == http.StatusOK {
			if err := json.Unmarshal(body, &now); err != nil {
				t.Fatalf("%s: %v", body, err)
			}
		}
		return reply.StatusCode, now
	}
	if code, _ := call("POST", "/start?rate=nonsense"); code != http.StatusBadRequest {
		t.Errorf("nonsense: %d", code)
	}
	if _, now := call("POST", "/start?rate=500&for=1m"); !now.Running {
		t.Errorf("started, and it says %+v", now)
	}
	until := func(what string, reached func(now status) bool) status {
		// Tests share two cores with builds.
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			_, now := call("GET", "/status")
			if reached(now) {
				return now
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: not within a minute: %+v", what, now)
			}
		}
	}
	if now := until("a hundred answers", func(now status) bool { return now.Answered >= 100 }); now.Failed > 0 || now.P99Seconds <= 0 {
		t.Errorf("%+v", now)
	}
	if _, now := call("POST", "/stop"); now.Running {
		t.Errorf("stopped, and it says %+v", now)
	}
	time.Sleep(50 * time.Millisecond)
	_, then := call("GET", "/status")
	time.Sleep(100 * time.Millisecond)
	if _, later := call("GET", "/status"); later.Sent != then.Sent {
		t.Errorf("%d requests were sent after the stop", later.Sent-then.Sent)
	}

	call("POST", "/start?rate=100&for=50ms")
	until("an end by itself", func(now status) bool { return !now.Running })

	worker.Close()
	call("POST", "/start?rate=100&for=1m")
	until("failures without an API", func(now status) bool { return now.Failed > 0 })
	call("POST", "/stop")
}
