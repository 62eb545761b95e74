package pagewalk
import ("testing";"context";"time")
func TestTry(t *testing.T){
 t0:=time.Now()
 k,err:=Open(); if err!=nil{t.Fatal(err)}
 t.Log("open",time.Since(t0))
 defer k.Close()
 w,err:=k.List(context.Background(),nil); if err!=nil{t.Fatal(err)}
 t.Log(w.Elapsed,w.Calls,w.Objects,w.Live,len(w.Memcgs),len(w.Files),w.Inconclusive)
 for i,m:=range w.Memcgs{ if i>10{break}; t.Logf("%+v",m)}
 for i,m:=range w.Files{ if i>10{break}; t.Logf("%+v",m)}
}
func TestTry2(t *testing.T){
 k,err:=Open(); if err!=nil{t.Fatal(err)}
 t.Logf("%x %v",k.pages,k.noPages)
 t0:=time.Now()
 t.Log(DrainBatches("/var/tmp"),time.Since(t0))
}
