"""One machine's deployment: the real broker, Flink and our servers as supervised processes.

`broker` and `flink_home` render the configuration of Kafka and Flink from the settings and name the commands that start
them; `parts` lists every process of a deployment as data; `readiness` says when a part serves; `daemon` drives the one
supervisord that they run under; `processes` finds and ends what has lost it; `supervisor` is the whole: up and down.
"""
