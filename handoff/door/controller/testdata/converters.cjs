// Writes what zigbee2mqtt's converters make of a lock's messages, and of ours to it, as a
// table for TestConverters. From a folder in which `npm i zigbee-herdsman-converters@26.112.0` was run:
//
//	node .../handoff/door/controller/testdata/converters.cjs >.../handoff/door/controller/testdata/converters.json
const {createRequire} = require("node:module");
const load = createRequire(process.cwd() + "/");
const fz = load("zigbee-herdsman-converters/converters/fromZigbee");
const tz = load("zigbee-herdsman-converters/converters/toZigbee");

const model = {meta: {}, model: "lock", fromZigbee: [], toZigbee: []};
const published = (converter, type, data) =>
    converter.convert(model, {type, data, endpoint: {ID: 1}, device: {}}, () => {}, {}, {state: {}, device: {}});
const report = "attributeReport";

async function main() {
    const messages = {};
    for (const lockState of [0, 1, 2, 255]) messages[`lockState ${lockState}`] = published(fz.lock, report, {lockState});
    for (const doorState of [0, 1, 2, 3, 4, 255]) messages[`doorState ${doorState}`] = published(fz.lock, report, {doorState});
    for (let opereventcode = 0; opereventcode <= 15; opereventcode++) {
        messages[`operation ${opereventcode}`] = published(fz.lock_operation_event, "commandOperationEventNotification", {opereventcode, opereventsrc: 1, userid: 7});
    }
    for (const batteryPercentageRemaining of [200, 60, 30, 28, 0, 255]) {
        messages[`battery ${batteryPercentageRemaining} half percent`] = published(fz.battery, report, {batteryPercentageRemaining});
    }
    for (const zonestatus of [0, 1, 4, 8, 13]) {
        messages[`contact zone ${zonestatus}`] = published(fz.ias_contact_alarm_1, "commandStatusChangeNotification", {zonestatus});
    }
    // What the bridge makes of our commands: which cluster command, or which attribute is read.
    const commands = {};
    for (const sent of [{state: "UNLOCK"}, {state: "LOCK"}]) {
        const told = [];
        const entity = {command: async (cluster, command) => told.push(`${cluster} ${command}`)};
        const answer = await tz.lock.convertSet(entity, "state", sent.state, {mapped: model, state: {}, message: sent});
        commands[`set ${JSON.stringify(sent)}`] = {told, optimistic: answer?.state ?? null};
    }
    const told = [];
    await tz.lock.convertGet({read: async (cluster, attributes) => told.push(`${cluster} ${attributes}`)}, "state", {mapped: model});
    commands[`get ${JSON.stringify({state: ""})}`] = {told, optimistic: null};
    process.stdout.write(JSON.stringify({messages, commands}, null, 1) + "\n");
}

main();
