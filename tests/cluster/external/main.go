// Command external answers the API server's external.metrics.k8s.io with requests/s per workload, so that the real
// HorizontalPodAutoscaler of a test scales on the same counters that Prescale's agents show: it reads their /metrics.
package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	group  = "/apis/external.metrics.k8s.io"
	metric = "requests_per_second"
	// What is summed: by pod, from 0 with each attach.
	counter = "prescale_http_server_requests_started_total{"
)

// sample is one reading of all agents: requests begun, by namespace and pod.
type sample struct {
	at    time.Time
	pods  map[string]map[string]float64
	valid bool
}

// history is the readings of the window, the oldest first.
type history struct {
	sync.Mutex
	samples []sample
}

func main() {
	agents := flag.String("agents", "", "URLs of the agents' /metrics, separated by commas")
	period := flag.Duration("period", 5*time.Second, "between two readings")
	window := flag.Duration("window", 15*time.Second, "what a rate is the mean of")
	flag.Parse()
	if flag.NArg() > 0 {
		log.Fatalf("%q: there are no arguments but the flags", flag.Args())
	}
	var past history
	go func() {
		for range time.Tick(*period) {
			past.add(read(strings.Split(*agents, ",")), *window)
		}
	}()
	certificate, err := selfSigned()
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc(group, func(response http.ResponseWriter, _ *http.Request) {
		version := map[string]string{"groupVersion": "external.metrics.k8s.io/v1beta1", "version": "v1beta1"}
		answer(response, map[string]any{
			"kind": "APIGroup", "apiVersion": "v1", "name": "external.metrics.k8s.io",
			"versions": []any{version}, "preferredVersion": version,
		})
	})
	http.HandleFunc(group+"/v1beta1", func(response http.ResponseWriter, _ *http.Request) {
		answer(response, map[string]any{
			"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "external.metrics.k8s.io/v1beta1",
			"resources": []any{map[string]any{
				"name": metric, "singularName": "", "namespaced": true,
				"kind": "ExternalMetricValueList", "verbs": []string{"get"},
			}},
		})
	})
	http.HandleFunc(group+"/v1beta1/namespaces/{namespace}/"+metric, func(response http.ResponseWriter, request *http.Request) {
		items := []any{}
		if rate, at, known := past.rate(request.PathValue("namespace")); known {
			items = append(items, map[string]any{
				"metricName": metric, "metricLabels": map[string]string{},
				"timestamp": at.UTC().Format(time.RFC3339), "value": fmt.Sprintf("%dm", int64(rate*1000)),
			})
		}
		answer(response, map[string]any{
			"kind": "ExternalMetricValueList", "apiVersion": "external.metrics.k8s.io/v1beta1",
			"metadata": map[string]any{}, "items": items,
		})
	})
	server := &http.Server{Addr: ":6443", TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}}
	log.Fatal(server.ListenAndServeTLS("", ""))
}

func (past *history) add(reading sample, window time.Duration) {
	past.Lock()
	defer past.Unlock()
	if reading.valid {
		past.samples = append(past.samples, reading)
	}
	for len(past.samples) > 2 && reading.at.Sub(past.samples[1].at) >= window {
		past.samples = past.samples[1:]
	}
}

// rate is the mean over the window of what a namespace's pods began; a pod that is new counts from 0.
func (past *history) rate(namespace string) (float64, time.Time, bool) {
	past.Lock()
	defer past.Unlock()
	if len(past.samples) < 2 {
		return 0, time.Time{}, false
	}
	sum := 0.0
	for index := 1; index < len(past.samples); index++ {
		before := past.samples[index-1].pods[namespace]
		for pod, value := range past.samples[index].pods[namespace] {
			if value >= before[pod] {
				value -= before[pod]
			}
			sum += value
		}
	}
	first, last := past.samples[0].at, past.samples[len(past.samples)-1].at
	return sum / last.Sub(first).Seconds(), last, true
}

func read(agents []string) sample {
	reading := sample{at: time.Now(), pods: map[string]map[string]float64{}, valid: true}
	client := http.Client{Timeout: 2 * time.Second}
	for _, agent := range agents {
		response, err := client.Get(agent)
		if err != nil {
			log.Print(err)
			reading.valid = false
			return reading
		}
		lines := bufio.NewScanner(response.Body)
		for lines.Scan() {
			labels, found := strings.CutPrefix(lines.Text(), counter)
			name, rest, ends := strings.Cut(labels, "} ")
			value, err := strconv.ParseFloat(rest, 64)
			if !found || !ends || err != nil {
				continue
			}
			namespace := label(name, "namespace")
			if reading.pods[namespace] == nil {
				reading.pods[namespace] = map[string]float64{}
			}
			reading.pods[namespace][label(name, "pod")] = value
		}
		if err := response.Body.Close(); err != nil {
			log.Print(err)
		}
	}
	return reading
}

// label of names that need no escapes: those of Kubernetes.
func label(labels, name string) string {
	_, rest, _ := strings.Cut(","+labels, ","+name+"=\"")
	value, _, _ := strings.Cut(rest, "\"")
	return value
}

func answer(response http.ResponseWriter, value any) {
	response.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(response).Encode(value); err != nil {
		log.Print(err)
	}
}

// selfSigned is a certificate that nobody checks: the APIService says so.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	whole, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{whole}, PrivateKey: key}, err
}
