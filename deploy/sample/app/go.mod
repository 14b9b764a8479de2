module prescale.dev/sample

go 1.26
