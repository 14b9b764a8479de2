#!/usr/bin/env python3
"""Which origins and horizons FORECAST.md's evaluate.py asks of traces of these steps and lengths: protocol.json.

  protocol.py DIRECTORY_OF_EVALUATE_PY > protocol.json        needs numpy; made with 2.4.6

The counts do not matter to it. Lengths: under and over a day, exactly a day, so few that origins coincide, more than
fourteen days, and odd ones, whose origins fall on halves.
"""
import gzip, json, os, sys, tempfile

CASES = [(10, 500), (10, 8640), (10, 30001), (60, 150), (60, 901), (60, 1440), (60, 20163), (300, 130), (300, 5001)]

with tempfile.TemporaryDirectory() as traces:
    os.environ['TRACES'] = traces
    sys.path.insert(0, sys.argv[1])
    import evaluate

    made = []
    for step, bins in CASES:
        name = f'{step}s_{bins}'
        with gzip.open(os.path.join(traces, name + '.csv.gz'), 'wt') as f:
            f.write('timestamp,value\n')
            f.writelines(f'{evaluate.fmt_ts(i * step)},1\n' for i in range(bins))
        trace = evaluate.Trace(name)
        made.append(dict(step_seconds=trace.step, bins=trace.n, test=int(trace.test), horizons=list(trace.horizons),
                         origins=[int(o) for o in trace.origins]))
print('[\n' + ',\n'.join(json.dumps(case, separators=(',', ':')) for case in made) + '\n]')
