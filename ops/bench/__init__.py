"""Measures Tandem against the ways one would do the same without it, and writes RESULTS.md.

    python -m ops.bench                   every row, three rounds
    python -m ops.bench B1 B3 --rounds 1  some rows, fewer rounds
    python -m ops.bench profile           where the time of the gateway's hot path goes
    python -m ops.bench profile engine    where the time of the torch engine goes

A *row* (`rows/`) is one question, such as "how many submits a second?". It is asked of *subjects* (`subjects/`): a whole
Tandem or its engine alone, and peers (`peers/`), most of them in environments of their own. Absolute figures mean little
on another machine, so the answer is the *ratio* of two figures measured in turn in one round; the median over the rounds
is quoted, with its spread. A new row is a file in `rows/`, a new subject one in `subjects/`.
"""
