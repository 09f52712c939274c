// A command is over for exec() when all who have its output have closed it ("close"), and not when it has ended ("exit").
const { exec } = require("child_process");
const child = exec("sleep 10000 & echo kill $!", () => {});
child.stdout.on("data", (text) => process.stdout.write(text));
console.log(`ask ${process.pid} 0`);
