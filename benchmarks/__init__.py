"""What datastatus costs, measured beside what it could cost at least. See docs/performance.md.

__main__        the command line
figures         a figure: its value, its limit, and what it should reach
rounds          contenders measured in turns, so that a noisy machine is unfair to nobody
report          a table for people, lines of JSON for programs
bench           what every benchmark is given: Postgres, services, bare servers, load processes
programs        server programs, each in a process of its own
bare_server     the gRPC server that does nothing: the limit of most figures
loads           what load processes do: unary calls, counted and timed
sql             connections to Postgres beside the service's own
seed, history   connections to work on, and years of history, written by COPY
queueing, watching, reading, lifecycle, records, startup, growth, scaling
                the figures, a module for each group
"""
