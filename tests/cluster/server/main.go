// Command server is the application in the pods of the cluster tests: Go's own HTTP server, with a start-up and a
// capacity of its own. A request holds one of its slots for a while and burns some CPU in it.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	listen := flag.String("listen", ":8080", "where to listen")
	startUp := flag.Duration("start-up", 0, "how long nothing is served after the start")
	work := flag.Duration("work", 0, "how long a request takes, once it has a slot")
	spin := flag.Duration("spin", 0, "for how much of that it burns CPU")
	slots := flag.Int("slots", 10000, "requests served at a time; others wait")
	drain := flag.Duration("drain", 2*time.Second, "how long it goes on serving after SIGTERM")
	flag.Parse()
	time.Sleep(*startUp)
	free := make(chan struct{}, *slots)
	http.HandleFunc("/", func(response http.ResponseWriter, request *http.Request) {
		select {
		case free <- struct{}{}:
		case <-request.Context().Done():
			// Whoever gave up while waiting costs those who still wait nothing.
			return
		}
		begin := time.Now()
		for time.Since(begin) < *spin {
		}
		time.Sleep(*work - *spin)
		<-free
		if _, err := response.Write([]byte("ok\n")); err != nil {
			log.Print(err)
		}
	})
	server := &http.Server{Addr: *listen}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		<-stop
		// Whoever sends requests needs a moment to see that this pod leaves.
		time.Sleep(*drain)
		if err := server.Shutdown(context.Background()); err != nil {
			log.Print(err)
		}
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	<-ended
}
