// Command server is the application in the pods of the cluster tests: Go's own HTTP server, with a start-up of its own.
package main

import (
	"flag"
	"log"
	"net/http"
	"time"
)

func main() {
	listen := flag.String("listen", ":8080", "where to listen")
	startUp := flag.Duration("start-up", 0, "how long nothing is served after the start")
	work := flag.Duration("work", 0, "how long a request takes")
	flag.Parse()
	time.Sleep(*startUp)
	http.HandleFunc("/", func(response http.ResponseWriter, _ *http.Request) {
		time.Sleep(*work)
		if _, err := response.Write([]byte("ok\n")); err != nil {
			log.Print(err)
		}
	})
	log.Fatal(http.ListenAndServe(*listen, nil))
}
