from h import *
C = os.environ.get("CC", "4")
only = os.environ.get("ONLY", "abcdefghij")
isasync = pool == "asyncio"
slp = t.asleeper if isasync else t.sleeper
wk, lt = (t.awork, t.alate) if isasync else (t.work, t.late)
q("create table if not exists fe_rows (v int)")
try:
  if "a" in only:
    sec("basic"); w = W("-c", C, "-l", "INFO")
    rs = {k: f() for k, f in dict(noop=lambda: t.noop.delay(1), anoop=lambda: t.anoop.delay(2), flaky=lambda: t.flaky.delay(1), nested=lambda: t.nested.delay(), getter=lambda: t.getter.delay(), badgetter=lambda: t.badgetter.delay(), upd=lambda: t.updater.delay(), atom=lambda: t.atom.delay(), atomf=lambda: t.atom.delay(True), bigexc=lambda: t.bigexc.delay(), unser=lambda: t.unser.delay(), sysexit=lambda: t.sysexit.delay(), kbi=lambda:t.kbi.delay()).items()}
    if isasync or pool in ("threads","prefork","gevent","eventlet") : pass
    for k, r in rs.items():
        try:
            v = r.get(timeout=25, propagate=False); print("  ", k, r.state, repr(v)[:150], flush=True)
            if k == "nested": print("   nested->", AsyncResult(v).get(timeout=20))
        except Exception as e: print("  ", k, "EXC", type(e).__name__, str(e)[:150], r.state)
    r = t.updater.delay()
    R(lambda: until(lambda: r.state == "PROGRESS", "progress", 10) and r.info)
    print("  rows", q("select v from fe_rows"))
    R(lambda: w.end()); print("   tracebacks", tb(w))
    x = w.text(); print("   log names:", "fe.tasks.flaky" in x, len(re.findall(r"succeeded in", x)), len(x.splitlines()))
  if "b" in only:
    sec("kill -9 child mid-run"); w = W("-c", C, "-l", "INFO"); open(AUD, "w").close()
    a = [wk.delay(f"e{i}", 1.0) for i in range(4)]; b = [lt.delay(f"l{i}", 1.0) for i in range(12)]; 
    until(lambda: any(k.startswith("l") for k in audit()), "a late began", 20)
    ks = w.kids(); print("   kids", [(k.pid, k.name(), " ".join(k.cmdline())[:60]) for k in ks][:8])
    pid = int([l.split()[2] for l in open(AUD) if l.startswith("start l")][-1])
    if pid != w.p.pid: os.kill(pid, 9)
    else: print("   (in the worker)"); w.wipe(); w = W("-c", C, "-l", "INFO")
    for r in b: 
        try: r.get(timeout=90, propagate=False)
        except Exception as e: print("   LOST", r.id, r.state, e)
    print("   early:", [ (r.state, type(r.result).__name__) for r in a]); print("   late:", {r.state for r in b}, "starts>1:", {k: v for k, v in starts().items() if v > 1})
    R(lambda: w.end()); print("   tracebacks", tb(w))
  if "c" in only:
    sec("kill -9 worker"); w = W("-c", C, "-l", "INFO"); open(AUD, "w").close()
    b = [lt.delay(f"l{i}", 0.5) for i in range(60)]; a = [wk.delay(f"e{i}", 0.5) for i in range(10)]
    until(lambda: len(audit()) > 3, "began", 20); ks = w.kids(); w.p.kill(); w.p.wait(); time.sleep(1.5)
    print("   orphans:", [k.pid for k in ks if k.is_running() and k.status() != "zombie"])
    t0 = time.monotonic(); w = W("-c", C, "-l", "INFO")
    for r in [*a, *b]:
        try: r.get(timeout=100, propagate=False)
        except Exception as e: print("   LOST", r.id, r.state, e)
    s = starts(); print("   after", round(time.monotonic() - t0, 1), {r.state for r in a}, {r.state for r in b}, "early twice:", [k for k, v in s.items() if v > 1 and k[0] == "e"], "late twice", sum(1 for k, v in s.items() if v > 1 and k[0] == "l"))
    R(lambda: w.end()); print("   tracebacks", tb(w))
  if "d" in only:
    sec("warm mid-task with thousands queued"); w = W("-c", C, "-l", "INFO"); open(AUD, "w").close()
    b = [wk.delay(f"e{i}", 0.3) for i in range(2500)]
    until(lambda: len(audit()) > 6, "began", 20)
    print("   end", w.end()); au = audit(); print("   begun", len(au), "unended", [k for k, v in au.items() if "end" not in v][:5]); n = q("select count(*), count(owner) from djtasks_message")[0]; print("   left, owned", n, "sum", n[0] + len(au)); print("   tracebacks", tb(w))
    sec("cold"); w = W("-c", C, "-l", "INFO"); until(lambda: len(audit()) > len(au) + 4, "began"); print("   QUIT", w.end(signal.SIGQUIT)); au2 = audit(); n = q("select count(*), count(owner) from djtasks_message")[0]
    print("   begun", len(au2), "unended", len([k for k, v in au2.items() if "end" not in v]), "left, owned", n, "tracebacks", tb(w)); un = [k for k, v in au2.items() if "end" not in v]
    print("   states of unended:", {b[int(k[1:])].state for k in un}, "twice", [k for k, v in starts().items() if v > 1])
    q("delete from djtasks_message")
    sec("TERM then TERM/INT twice, mid long late task"); w = W("-c", C, "-l", "INFO"); r = slp.apply_async((20,), acks_late=True) ; until(lambda: r.state in("STARTED",) or q("select count(*) from djtasks_message where owner is not null")[0][0], "taken"); time.sleep(1)
    w.sig(signal.SIGINT); time.sleep(0.5); print("   2nd INT", w.end(signal.SIGINT)); print("   state", r.state, q("select count(*), count(owner) from djtasks_message")); q("delete from djtasks_message"); print("   tracebacks", tb(w))
    sec("--shutdown-timeout 1 mid-task"); w = W("-c", C, "-l", "INFO", "--shutdown-timeout", "1"); r = slp.delay(20); open(AUD,"w").close(); l = lt.delay("late", 20); time.sleep(2); print("   ", w.end()); print("   early", r.state, repr(r.result)[:80], "late", l.state, q("select count(*), count(owner) from djtasks_message"), "tb", tb(w)); q("delete from djtasks_message")
  if "e" in only:
    sec("revoke terminate"); w = W("-c", C, "-l", "INFO"); r = slp.delay(30); o = wk.delay("other", 3); time.sleep(1.5); R(lambda: r.revoke(terminate=True)); R(lambda: until(lambda: r.state == "REVOKED", "revoked", 6)); R(lambda: o.get(timeout=20))
    r = t.spin.delay(30); time.sleep(1.5); r.revoke(terminate=True); R(lambda: until(lambda: r.state == "REVOKED", "spin revoked", 8)); 
    r = t.sleeper.delay(8); time.sleep(1.5); r.revoke(terminate=True, signal="SIGKILL"); R(lambda: until(lambda: r.state == "REVOKED", "revoked KILL", 10)); print("   ", r.state); R(lambda: t.noop.delay(3).get(timeout=20)); R(lambda: w.end(to=40)); print("   tracebacks", tb(w))
  if "f" in only:
    sec("limits"); w = W("-c", C, "-l", "INFO", "--soft-time-limit", "1", "--time-limit", "3")
    if w.p.poll() is not None: print("   rc", w.p.returncode, w.text()[-300:]); w = W("-c", C, "-l", "INFO", "--soft-time-limit", "1")
    if w.p.poll() is not None: print("   rc", w.p.returncode, w.text()[-300:])
    else:
        rs = dict(soft=t.soft.delay(10), slp=slp.delay(10), spin=t.spin.delay(10), sql=t.sql.delay(6))
        o = None
        for k, r in rs.items():
            try: r.get(timeout=30, propagate=False)
            except Exception as e: print("  EXC", type(e).__name__)
            print("  ", k, r.state, repr(r.result)[:90], flush=True)
        h = slp.apply_async((10,), soft_time_limit=None, time_limit=1); 
        try: h.get(timeout=20, propagate=False)
        except Exception as e: print("  EXC", type(e).__name__, e)
        print("   hard", h.state, repr(h.result)[:90]); R(lambda: t.noop.delay(3).get(timeout=20)); R(lambda: w.end(to=40)); print("   tracebacks", tb(w))
  if "g" in only:
    sec("control"); w = W("-c", C, "-l", "INFO")
    for a in (["control", "pool_grow", "2"], ["control", "pool_shrink", "1"], ["control", "pool_restart"], ["control", "autoscale", "5", "1"], ["control", "pool_grow", "1000000"], ["control","pool_grow","x"], ["inspect", "ping"], ["control","ping","-d","nobody@x"], ["inspect", "nonsense"]):
        rc, o = dj(*a); print("  ", a, rc, "TRACEBACK" if "Traceback" in o else "", o[:250].replace("\n", " | "), flush=True)
    R(lambda: t.noop.delay(3).get(timeout=20))
    R(lambda: w.end()); print("   tracebacks", tb(w))
    for args in (["--autoscale", "4,1"], ["--max-tasks-per-child", "5"], ["--max-memory-per-child", "100000"], ["--autoscale", "x"], ["--autoscale", "-4"], ["--autoscale","4,1","-c","3"], ["-c", "0"], ["-c", "100000"]):
        w = W(*args, "-l", "INFO", wait=False)
        until(lambda: " ready" in w.text() or w.p.poll() is not None, "start/refusal", 40)
        if w.p.poll() is not None: print("  ", args, "rc", w.p.returncode, "tb", tb(w), w.text()[-220:].strip().replace("\n", " | "), flush=True)
        else:
            print("  ", args, "started", len(w.kids())); 
            if args[0] == "--autoscale" :
                b = [t.sleeper.delay(2) for i in range(12)]; time.sleep(2.5); print("   kids under load", len(w.kids()), dj("inspect", "stats", "--json")[1][-0:][:0]); R(lambda: [r.get(timeout=60) for r in b] and "all")
            if args[0] == "--max-tasks-per-child": R(lambda: [t.noop.delay(i).get(timeout=20) for i in range(30)] and "30 fine")
            print("   ", w.end(), tb(w))
  if "h" in only:
    sec("throughput and memory, 20000 noops"); N = int(os.environ.get("NN", "20000"))
    from djtasks import group
    f = t.anoop if isasync else t.noop
    t0 = time.monotonic()
    group(f.s(i) for i in range(N)).apply_async(); print("   enqueued", round(time.monotonic() - t0, 1))
    w = W("-c", os.environ.get("CH", C), "-l", "WARNING"); r0 = [k.memory_info().rss >> 10 for k in [psutil.Process(w.p.pid), *w.kids()]]; t0 = time.monotonic(); n0 = q("select count(*) from djtasks_message")[0][0]
    until(lambda: q("select count(*) from djtasks_message")[0][0] <= N*3//4, "quarter", 200); r1 = [k.memory_info().rss >> 10 for k in [psutil.Process(w.p.pid), *w.kids()]]
    until(lambda: q("select count(*) from djtasks_message")[0][0] == 0, "all", 300); d = time.monotonic() - t0; r2 = [k.memory_info().rss >> 10 for k in [psutil.Process(w.p.pid), *w.kids()]]
    print("   tasks/s", round(n0 / d), "load", os.getloadavg()[0], "rss KiB", r0, r1, r2); print("   ", w.end(), tb(w))
except BaseException: traceback.print_exc()
finally:
    for w in alive:
        if w.p.poll() is None: w.wipe()
