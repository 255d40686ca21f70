// The servers of the benchmark as the classic SocketAsyncEventArgs server: one block of memory, cut into a buffer for each
// operation, a pool of operations that are used again, a semaphore for clients, completion callbacks.
using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Net;
using System.Net.Sockets;
using System.Threading;

static class Options
{
    public static int Connections = 64, Count = 1000, Bytes = 1024;
    public const int Message = 64, Piece = 64 << 10, Threads = 4, Buffer = 16 << 10, MostClients = 12000, MostUnsent = 256;
}

// One large array; operations are given parts of it.
sealed class BufferManager
{
    readonly byte[] block;
    readonly Stack<int> free = new Stack<int>();
    readonly int size;
    int next;

    public BufferManager(int count, int size)
    {
        block = new byte[count * size];
        this.size = size;
    }

    public void SetBuffer(SocketAsyncEventArgs operation)
    {
        lock (free)
        {
            if (free.Count > 0) { operation.SetBuffer(block, free.Pop(), size); return; }
            operation.SetBuffer(block, next, size);
            next += size;
        }
    }
}

sealed class Client
{
    public Socket Socket;
    public SocketAsyncEventArgs Operation;
    // What others send: one send is under way at a time, with a list of what has gathered.
    public readonly List<ArraySegment<byte>> Waiting = new List<ArraySegment<byte>>();
    public SocketAsyncEventArgs Sending;
    public bool IsSending;
    public byte[] Rest;
    public int RestLength, Under, Number;
}

abstract class Server
{
    readonly Socket listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
    readonly ConcurrentStack<SocketAsyncEventArgs> pool = new ConcurrentStack<SocketAsyncEventArgs>();
    readonly BufferManager buffers = new BufferManager(Options.MostClients, BufferSize);
    readonly SemaphoreSlim clients = new SemaphoreSlim(Options.MostClients);
    const int BufferSize = 4 << 10;

    public void Run()
    {
        for (int i = 0; i < Options.MostClients; i++)
        {
            var operation = new SocketAsyncEventArgs();
            operation.Completed += OnCompleted;
            buffers.SetBuffer(operation);
            pool.Push(operation);
        }
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen(4096);
        Console.WriteLine(((IPEndPoint)listener.LocalEndPoint).Port);
        Console.Out.Flush();
        var accept = new SocketAsyncEventArgs();
        accept.Completed += (sender, operation) => { ProcessAccept(operation); StartAccept(operation); };
        StartAccept(accept);
        Thread.Sleep(Timeout.Infinite);
    }

    void StartAccept(SocketAsyncEventArgs operation)
    {
        for (;;)
        {
            operation.AcceptSocket = null;
            clients.Wait();
            if (listener.AcceptAsync(operation)) return;
            ProcessAccept(operation);
        }
    }

    void ProcessAccept(SocketAsyncEventArgs accepted)
    {
        SocketAsyncEventArgs operation;
        if (accepted.SocketError != SocketError.Success || !pool.TryPop(out operation)) { clients.Release(); return; }
        var client = new Client { Socket = accepted.AcceptSocket, Operation = operation };
        client.Socket.NoDelay = true;
        operation.UserToken = client;
        Opened(client);
        Receive(client);
    }

    void OnCompleted(object sender, SocketAsyncEventArgs operation)
    {
        var client = (Client)operation.UserToken;
        if (operation.LastOperation == SocketAsyncOperation.Receive) { if (ProcessReceive(client)) Receive(client); }
        else if (ProcessSend(client)) Receive(client);
    }

    // Receives until an operation does not complete at once.
    void Receive(Client client)
    {
        for (;;)
        {
            client.Operation.SetBuffer(client.Operation.Offset, BufferSize);
            try { if (client.Socket.ReceiveAsync(client.Operation)) return; }
            catch (ObjectDisposedException) { return; }
            if (!ProcessReceive(client)) return;
        }
    }

    // True: the next receive may begin.
    bool ProcessReceive(Client client)
    {
        var operation = client.Operation;
        if (operation.SocketError != SocketError.Success || operation.BytesTransferred == 0)
        {
            if (operation.SocketError == SocketError.Success) Ended(client);
            Close(client);
            return false;
        }
        return Received(client, operation.Buffer, operation.Offset, operation.BytesTransferred);
    }

    // Sends back what the operation's own buffer holds. True: it was sent at once.
    protected bool SendBack(Client client, int count)
    {
        var operation = client.Operation;
        operation.SetBuffer(operation.Offset, count);
        if (client.Socket.SendAsync(operation)) return false;
        return ProcessSend(client);
    }

    bool ProcessSend(Client client)
    {
        if (client.Operation.SocketError == SocketError.Success) return true;
        Close(client);
        return false;
    }

    // Sends a copy of its own, behind what waits.
    protected void Send(Client client, byte[] data)
    {
        lock (client.Waiting)
        {
            client.Waiting.Add(new ArraySegment<byte>(data));
            if (client.IsSending) return;
            client.IsSending = true;
        }
        SendWaiting(client);
    }

    void SendWaiting(Client client)
    {
        for (;;)
        {
            if (client.Sending == null)
            {
                client.Sending = new SocketAsyncEventArgs();
                client.Sending.Completed += (sender, operation) => { if (WasSent(client)) SendWaiting(client); };
            }
            lock (client.Waiting)
            {
                if (client.Waiting.Count == 0) { client.IsSending = false; return; }
                client.Sending.BufferList = client.Waiting.ToArray();
                client.Under = client.Waiting.Count;
                client.Waiting.Clear();
            }
            try { if (client.Socket.SendAsync(client.Sending)) return; }
            catch (ObjectDisposedException) { return; }
            if (!WasSent(client)) return;
        }
    }

    bool WasSent(Client client)
    {
        Sent(client, client.Under);
        return client.Sending.SocketError == SocketError.Success;
    }

    protected void Close(Client client)
    {
        Left(client);
        client.Socket.Dispose();
        client.Operation.UserToken = null;
        pool.Push(client.Operation);
        clients.Release();
    }

    protected virtual void Opened(Client client) { }
    protected abstract bool Received(Client client, byte[] data, int offset, int count);
    protected virtual void Ended(Client client) { }
    protected virtual void Left(Client client) { }
    protected virtual void Sent(Client client, int count) { }

    protected static void Cut(Client client, int size, byte[] data, int offset, int count, Action<byte[]> take)
    {
        if (client.Rest == null) client.Rest = new byte[size];
        while (count > 0)
        {
            int more = Math.Min(size - client.RestLength, count);
            Buffer.BlockCopy(data, offset, client.Rest, client.RestLength, more);
            client.RestLength += more;
            offset += more;
            count -= more;
            if (client.RestLength < size) return;
            take((byte[])client.Rest.Clone());
            client.RestLength = 0;
        }
    }
}

sealed class Echo : Server
{
    protected override bool Received(Client client, byte[] data, int offset, int count) { return SendBack(client, count); }
}

sealed class Block : Server
{
    protected override bool Received(Client client, byte[] data, int offset, int count)
    {
        if (data[offset] == 'B') Thread.Sleep(50);
        return SendBack(client, count);
    }
}

sealed class Each : Server
{
    protected override bool Received(Client client, byte[] data, int offset, int count)
    {
        Cut(client, Options.Message, data, offset, count, message => Send(client, message));
        return true;
    }
}

sealed class Sink : Server
{
    protected override bool Received(Client client, byte[] data, int offset, int count) { return true; }
    protected override void Ended(Client client) { client.Socket.Send(new[] { (byte)'!' }); }
}

sealed class Broadcast : Server
{
    readonly List<Client> all = new List<Client>();

    protected override void Opened(Client client) { lock (all) all.Add(client); }
    protected override void Left(Client client) { lock (all) all.Remove(client); }
    protected override bool Received(Client client, byte[] data, int offset, int count)
    {
        Cut(client, Options.Bytes, data, offset, count, message => { lock (all) foreach (var each in all) Send(each, message); });
        return true;
    }
}

sealed class Push : Server
{
    readonly List<Client> all = new List<Client>();
    readonly SemaphoreSlim[] credit = new SemaphoreSlim[Options.Threads];
    int ready;

    public Push() { for (int i = 0; i < Options.Threads; i++) credit[i] = new SemaphoreSlim(Options.MostUnsent); }

    protected override void Opened(Client client)
    {
        lock (all) { client.Number = all.Count; all.Add(client); }
    }

    protected override bool Received(Client client, byte[] data, int offset, int count)
    {
        if (Interlocked.Add(ref ready, count) != Options.Connections) return true;
        for (int i = 0; i < Options.Threads; i++)
        {
            int first = i;
            new Thread(() => SendAll(first)).Start();
        }
        return true;
    }

    void SendAll(int first)
    {
        for (int k = 0; k < Options.Count; k++)
            for (int i = first; i < Options.Connections; i += Options.Threads)
            {
                var message = new byte[Options.Message];
                for (int j = 0; j < message.Length; j++) message[j] = (byte)((k + j) % 251);
                credit[first].Wait();
                Send(all[i], message);
            }
    }

    protected override void Sent(Client client, int count) { credit[client.Number % Options.Threads].Release(count); }
}

sealed class Produce : Server
{
    protected override bool Received(Client client, byte[] data, int offset, int count)
    {
        long left = Options.Count;
        var zeros = new byte[Options.Piece];
        Timer timer = null;
        timer = new Timer(_ =>
        {
            for (int i = 0; i < 16 && left > 0; i++, left -= Options.Piece)
                Send(client, left < Options.Piece ? new byte[left] : (byte[])zeros.Clone());
            if (left <= 0) timer.Dispose();
        }, null, 1, 1);
        return true;
    }
}

static class Program
{
    static int Main(string[] words)
    {
        int workers = 1;
        for (int i = 1; i < words.Length; i++)
        {
            var pair = words[i].Split('=');
            if (pair[0] == "connections") Options.Connections = int.Parse(pair[1]);
            if (pair[0] == "count") Options.Count = int.Parse(pair[1]);
            if (pair[0] == "bytes") Options.Bytes = int.Parse(pair[1]);
            if (pair[0] == "workers") workers = int.Parse(pair[1]);
        }
        string mode = words.Length > 0 ? words[0] : "";
        if (mode == "version") { Console.WriteLine(".NET Core " + Environment.Version); return 0; }
        ThreadPool.SetMinThreads(Math.Max(workers, 2), 2);
        switch (mode)
        {
            case "echo": new Echo().Run(); return 0;
            case "block": new Block().Run(); return 0;
            case "each": new Each().Run(); return 0;
            case "sink": new Sink().Run(); return 0;
            case "broadcast": new Broadcast().Run(); return 0;
            case "push": new Push().Run(); return 0;
            case "produce": new Produce().Run(); return 0;
        }
        Console.WriteLine("unsupported: no such mode");
        return 3;
    }
}
