// Command sample is an application to try Prescale on: a frontend, an API whose one endpoint needs CPU, and a load
// generator that is started and stopped over HTTP. One program, one image; the first argument says which it is.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sample:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) == 0 {
		return errors.New("want frontend, api or load, then flags")
	}
	flags := flag.NewFlagSet(arguments[0], flag.ContinueOnError)
	listen := flags.String("listen", ":8080", "where to listen")
	var serve func() http.Handler
	switch arguments[0] {
	case "api":
		work := flags.Duration("work", 10*time.Millisecond, "CPU time that a request needs on an idle core of this machine")
		startUp := flags.Duration("start-up", 10*time.Second, "how long nothing is served after the start")
		serve = func() http.Handler {
			rounds := calibrate(*work)
			// What an application does before it can serve: load code, fill caches, connect.
			time.Sleep(*startUp)
			return api(rounds)
		}
	case "frontend":
		backend := flags.String("api", "http://api:8080", "where the API is")
		serve = func() http.Handler { return frontend(*backend) }
	case "load":
		target := flags.String("target", "http://frontend:8080/", "what is asked")
		serve = func() http.Handler { return newGenerator(*target).control() }
	default:
		return fmt.Errorf("%q: want frontend, api or load", arguments[0])
	}
	if err := flags.Parse(arguments[1:]); err != nil {
		return err
	}
	handler := serve()
	log.Printf("%s listens on %s", arguments[0], *listen)
	return http.ListenAndServe(*listen, handler)
}
